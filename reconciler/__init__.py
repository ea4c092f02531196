"""Keeps RabbitMQ and the local worker processes equal to queues.yaml."""

__version__ = "0.1.0"
