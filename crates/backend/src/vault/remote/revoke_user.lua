-- ARGV: user, up to when, origin, version
-- Answer: the number of sessions, and the versions.
return revoke(ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4])
