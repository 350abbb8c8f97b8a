#!lua flags=allow-oom
-- Passes a message on to all nodes.
-- KEYS  channel
-- ARGV  message
return redis.call('SPUBLISH', KEYS[1], ARGV[1])
