"""What requests cost: prices, budgets and forecasts."""
