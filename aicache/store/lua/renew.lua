-- Lengthen a lease that is still one's own. A lease that is gone is not taken again: somebody may have led since.
-- KEYS: lease
-- ARGV: token, lease in ms
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
