"""How deployments are: breakers, cool-downs, throttles, budgets and live figures; pure, with the time passed in."""
