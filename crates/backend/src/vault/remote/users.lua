-- ARGV: behind which, how many
-- Answer: id, the rest, id, the rest …; fewer than wanted only at the end.
local after = ARGV[1] == '' and '-' or '(' .. ARGV[1]
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYLEX', P .. ':names', after, '+', 'LIMIT', 0, ARGV[2])) do
    table.insert(found, id)
    table.insert(found, redis.call('HGET', P .. ':users', id) or '')
end
return found
