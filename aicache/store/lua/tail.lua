-- What there is of a stream from a place on; where its leader is at it no more, the answer that it may have left.
-- KEYS: lease, what there is of the stream, entry
-- ARGV: token, place
-- → {'there', bytes}, {'outgrown', ''}: there is no more of it than was told; or {'gone', answer}
local token, outgrown = unpack(redis.call('HMGET', KEYS[1], 'token', 'outgrown'))
if token == ARGV[1] then
  return {outgrown and 'outgrown' or 'there', redis.call('GETRANGE', KEYS[2], ARGV[2], -1)}
end
return {'gone', redis.call('GET', KEYS[3])}
