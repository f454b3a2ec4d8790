"""Scrapy spiders that discover pages and image links."""
