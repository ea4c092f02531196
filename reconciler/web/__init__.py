"""REST endpoints, dashboard and log viewer. Writes edit queues.yaml; the loop does the rest."""
