-- Note what is of use for how long, and forget some of what is no longer: not all at once, as nobody is served meanwhile.
-- KEYS: a sorted set
-- ARGV: now (unix seconds), life in ms that the set must have left, then as for ZADD: until when (unix seconds), what, …
redis.call('ZADD', KEYS[1], unpack(ARGV, 3))
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 200) -- more than one call can add
if #old > 0 then
  redis.call('ZREM', KEYS[1], unpack(old))
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
