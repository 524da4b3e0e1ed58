"""What the gateway tells its operators: metrics, logs. It hears of an exchange once, by its Settlement."""
