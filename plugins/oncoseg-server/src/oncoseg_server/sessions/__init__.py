"""Who works on which series with which model: leases, shared volumes and embeddings, steps, and what is done ahead."""
