"""From noise to pictures: schedules, guidance, and the loop that samples."""
