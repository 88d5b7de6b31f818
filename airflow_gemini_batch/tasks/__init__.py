"""What a task does, whatever class it runs in."""
