"""Whether another's roundings are exact: hard inputs, compared bit for bit; and how fast they are beside ours."""
