-- What there is of a stream from a place on; where its leader is at it no more, the answer that it may have left.
-- KEYS: lease, what there is of the stream, entry
-- ARGV: token, place
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then
  return {'there', redis.call('GETRANGE', KEYS[2], ARGV[2], -1)}
end
return {'gone', redis.call('GET', KEYS[3])}
