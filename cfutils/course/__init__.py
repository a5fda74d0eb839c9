"""What only the series uses: its exercises, its claims, and figures of single notebooks."""
