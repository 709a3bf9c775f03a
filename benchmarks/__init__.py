"""What runforrest costs, beside the limits of the machine and the tools that do the same: `python -m benchmarks`."""
