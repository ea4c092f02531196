"""RabbitMQ: topology and messages over AMQP, views over its HTTP API, and the embedded node."""
