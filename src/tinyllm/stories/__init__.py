"""Making a data set of stories: words, plan, requests, filters, data set."""
