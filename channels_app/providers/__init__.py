"""The messaging providers. `base` defines their contract; they know no app but core."""
