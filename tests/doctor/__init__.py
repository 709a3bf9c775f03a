"""`runforrest doctor`."""
