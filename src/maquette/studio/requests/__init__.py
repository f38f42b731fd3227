"""What is asked of the studio: checked whole, by type, range and header, before anything is decoded or allocated.

Nothing here imports torch.
"""
