exports.isName = (value) => typeof value === 'string' && /^[\p{L}\p{N}]{1,20}$/u.test(value)

exports.isText = (value) => typeof value === 'string' && value.trim() !== '' && value.length <= 500
