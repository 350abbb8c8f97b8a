#!lua flags=no-writes
-- Whether a node that has beaten is still known: if not, what Redis knew is lost.
-- KEYS  records
-- ARGV  id
return redis.call('HEXISTS', KEYS[1], ARGV[1])
