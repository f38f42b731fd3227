"""From noise to images: schedules, guidance, and the loop that samples."""
