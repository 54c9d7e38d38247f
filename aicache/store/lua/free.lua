-- Free the memory of an answer that died, unless another stands in its place by now.
-- KEYS: the entry
-- ARGV: the mark that the dead one bears: payload.py writes it at the seventh byte
if redis.pcall('GETRANGE', KEYS[1], 6, 21) == ARGV[1] then
  return redis.call('UNLINK', KEYS[1])
end
return 0
