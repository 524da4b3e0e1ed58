"""What is asked besides chat: one file for each wire format of each operation."""
