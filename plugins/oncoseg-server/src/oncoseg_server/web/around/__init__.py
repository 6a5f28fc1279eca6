"""What is around the routes: who may enter, how much may be sent, what is measured."""
