-- Lengthen a lease that is still one's own. A lease that is gone is not taken again: somebody may have led since.
-- KEYS: lease, the mark of its answer
-- ARGV: token, lease in ms
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
