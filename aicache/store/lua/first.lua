-- first
-- Be the first to do something about a prefix, as long as it is remembered.
-- KEYS: the prefix
-- ARGV: what
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
return redis.call('HSETNX', KEYS[1], ARGV[1], 1)
