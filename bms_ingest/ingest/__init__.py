"""The path of one reading, top to bottom: subscriber, decoder, batcher, writer, acks."""
