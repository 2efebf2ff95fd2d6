package api

// Page reads what lists are asked with: how many, usual where the request does
// not say, and after which cursor; "" is the beginning.
func Page(maxResults *int32, nextToken *string, usual int) (limit int, after string) {
	limit = usual
	if maxResults != nil {
		limit = int(*maxResults)
	}
	if nextToken != nil {
		after = *nextToken
	}
	return limit, after
}
