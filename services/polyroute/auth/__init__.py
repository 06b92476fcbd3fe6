"""Who calls: accounts, projects and keys, kept in a database that no other role opens."""
