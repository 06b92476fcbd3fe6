"""What deployments charge: price lists as data, with a source, a date and a say of the operator."""
