#!lua flags=no-writes
-- Where a session is.
-- KEYS  session
-- Answer: node, state; nothing when it is over
return redis.call('HMGET', KEYS[1], 'node', 'state')
