#!lua
-- A user has spent something on one of the nodes.
-- KEYS  user (µs at which everything spent is there again)
-- ARGV  how long what was spent now takes to be there again, in µs
-- Answer: how long everything takes, in µs
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local until_full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + ARGV[1]
local ahead = until_full - now
redis.call('SET', KEYS[1], string.format('%.0f', until_full), 'PX', math.ceil(ahead / 1000) + 1000)
return ahead
