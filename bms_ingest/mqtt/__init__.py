"""Sessions with an MQTT broker: the first and the last step of a reading's path."""
