-- ARGV: session, origin, version
-- Answer: whether there was one, and the versions.
bar(ARGV[1])
if not remove(ARGV[1]) then return { 0 } end
return { 1, tell('gone', ARGV[2], ARGV[3]) }
