"""One test per attack of docs/security.md, each planted for real."""
