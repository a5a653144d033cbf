"""How one operator tile runs on one engine: legality, code, exact reference, cycles."""
