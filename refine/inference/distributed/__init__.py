"""The processes of one run: Lightning's DDP and torch's elastic agent, and which process refines which image."""
