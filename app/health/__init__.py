"""For probes and monitoring: the routes (`routes`), and what "ready" means (`readiness`)."""
