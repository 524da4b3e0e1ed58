"""What replies report of their use, where no dialect reads them."""
