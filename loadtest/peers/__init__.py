"""Services by other frameworks that give the answers of Riffle, to compare it with."""
