"""What others want to know of a run while it goes on: hooks, and the driver that feeds them."""
