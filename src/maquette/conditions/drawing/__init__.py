"""How maps are drawn, from key points, classes, surfaces and strokes."""
