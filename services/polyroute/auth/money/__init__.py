"""Money: budgets, holds, and the ledger in which every nano-dollar is an entry."""
