"""Networks, each seen through an adapter that cuts it into front and rear."""
