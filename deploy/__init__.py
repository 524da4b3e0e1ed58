"""What runs beside the gateway: dashboards and alerts, made from the tables here."""
