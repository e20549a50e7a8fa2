//! Apache Kafka by rdkafka.
