"""The studio: the web page on which people review, train and judge."""
