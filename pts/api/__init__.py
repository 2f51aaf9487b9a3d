"""The front door: what `import pts` offers, each name in the module that is called after what it does."""
