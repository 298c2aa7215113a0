"""What is learned about spot pools: start-ups, interruptions and lifetimes."""
