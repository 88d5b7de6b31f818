"""Cost of a batch job: prices, estimates from the input, and spending limits."""
